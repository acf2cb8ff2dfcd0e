"""The services of a project on this machine: its servers, their guard and secret, and the record of what runs."""
