"""A small web shop: two services over one database, and the third parties that they call."""
