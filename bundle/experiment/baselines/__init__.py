"""What bida is compared with: a network that a scan trains on itself, and the published ECLARE as a program."""
