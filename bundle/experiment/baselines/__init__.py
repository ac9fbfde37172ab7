"""What bida is compared with: a network that a scan trains on itself, the published ECLARE and UniRes as programs."""
