"""What b2v shows of its work: comparisons, filmstrips, heat maps, and a page for the browser."""

from b2v.show.heat import heat_map
from b2v.show.layout import beside
from b2v.show.page import Scene, write_page
from b2v.show.strip import strip

__all__ = ["Scene", "beside", "heat_map", "strip", "write_page"]
