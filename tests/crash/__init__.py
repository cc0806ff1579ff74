"""A killed hub, a cut disk, a full disk: does it come back with every promise kept?"""
