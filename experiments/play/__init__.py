"""An interactive page: a drop or an episode on the map, access points switched by hand, beside any policy."""
