"""When, and in what order: Prefect flows, and the commands that start them."""
