"""What all doors of one mesh share."""
