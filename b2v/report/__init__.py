"""What is written of scores beside JSON: tables, charts, and strips of pictures to look at.

This package alone uses matplotlib, which is an extra; it is imported only when a chart is drawn.
"""

from b2v.report.charts import Chart, Line, can_draw, check_chart, draw_chart
from b2v.report.scores import chart_of
from b2v.report.strips import Extremes, in_a_grid
from b2v.report.tables import check_file, write_csv, write_text

__all__ = [
    "Chart",
    "Extremes",
    "Line",
    "can_draw",
    "chart_of",
    "check_chart",
    "check_file",
    "draw_chart",
    "in_a_grid",
    "write_csv",
    "write_text",
]
