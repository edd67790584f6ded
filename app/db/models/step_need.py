"""Which step reads the output of which other step of its job."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class StepNeed(Base):
    __tablename__ = "step_needs"

    step_id: Mapped[str] = mapped_column(ForeignKey("steps.id"), primary_key=True)
    needed_step_id: Mapped[str] = mapped_column(ForeignKey("steps.id"), primary_key=True, index=True)
