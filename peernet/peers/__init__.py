"""Who and where: identities, addresses, networks of addresses, and the address book."""
