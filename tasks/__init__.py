"""What each step does, one package a step; flows chain them."""
