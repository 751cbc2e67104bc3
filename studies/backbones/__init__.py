"""What other backbones cost, and what they give."""
