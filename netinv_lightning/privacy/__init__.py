"""What reconstructions are compared with once an attack is over, and what an audit concludes (S2 section 5.3)."""
