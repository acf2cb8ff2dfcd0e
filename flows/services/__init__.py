"""What a project needs to run by itself on this machine: its servers, their guard and secret, and what is running."""
