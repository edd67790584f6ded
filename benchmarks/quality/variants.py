"""What is compared: the control, the two presets, and every single change between and around them."""

from dataclasses import dataclass
from typing import Any

from fusion.spec import Strategy

Overrides = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One strategy. `group` is the choice it varies; `overrides` are laid over the preset `default`."""

    name: str
    group: str
    overrides: Overrides

    @property
    def strategy(self) -> Strategy:
        return Strategy.model_validate(self.overrides)


def _variant(group: str, choice: str, **overrides: Any) -> Variant:
    return Variant(name=f"{group}: {choice}", group=group, overrides=overrides)


CONTROL = "control"
DEFAULT = Variant(name="default", group="preset", overrides={})
PAPER = Variant(name="paper", group="preset", overrides={"preset": "paper"})


SINGLE_CHANGES = (
    _variant("blending", "avg_ce", blending={"rule": "avg_ce"}),
    _variant("tail", "renormalise", objective={"tail": "renormalise"}),
    _variant("tail", "bucket", objective={"tail": "bucket"}),
    _variant("tokens", "dtw", alignment={"tokens": "dtw", "dtw_match": "hard"}),
    _variant("vocabulary", "exact", vocabulary={"map": "exact"}),
    _variant("vocabulary", "min_edit_distance", vocabulary={"map": "min_edit_distance"}),
    _variant("unaligned", "one_hot_next", alignment={"unaligned": "one_hot_next"}),
    _variant("unaligned", "one_hot_current", alignment={"unaligned": "one_hot_current"}),
    _variant("granularity", "window", blending={"granularity": "window"}),
    _variant("skip_if_target_better", "true", blending={"skip_if_target_better": True}),
    _variant("clm_weight", "0.9", objective={"clm_weight": 0.9}),
    _variant("clm_weight", "0.8", objective={"clm_weight": 0.8}),
    _variant("target as a source", "false", target_as_source=False),
    _variant("follow", "always", objective={"follow": "always"}),
    _variant("follow", "margin 0", objective={"follow_margin": 0.0}),
    _variant("weight of CLM alone", "as elsewhere", objective={"clm_weight_alone": None}),
)
