"""Every file that crosses a boundary, one frozen, versioned model each."""
