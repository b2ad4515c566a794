"""What b2v shows of its work: comparisons, filmstrips, heat maps, and a page for the browser."""

from b2v.show.heat import explained, heat_map
from b2v.show.layout import beside
from b2v.show.page import Scene, write_page
from b2v.show.strip import strip
from b2v.show.timing import Timing

__all__ = ["Scene", "Timing", "beside", "explained", "heat_map", "strip", "write_page"]
