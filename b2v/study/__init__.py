"""Studies: comparisons of networks that are trained with equal budgets and scored alike."""

from b2v.study.plans import Row, Study, studies, with_settings
from b2v.study.run import Job, Scored, run_study
from b2v.study.tables import page

__all__ = ["Job", "Row", "Scored", "Study", "page", "run_study", "studies", "with_settings"]
