"""What an answer is worth: rewards made of named parts, from a pattern to a judge, each of whose scores is kept."""

from polyana.rewards.human import HumanPartConfig
from polyana.rewards.judge import JudgeDown, JudgePartConfig
from polyana.rewards.part import Answered, Needs, Part, PartConfig, Surroundings, stage_in
from polyana.rewards.reward import (
    Reward,
    RewardPart,
    RewardParts,
    Scored,
    ScoreLedger,
    Weighed,
    open_reward,
    part_problems,
)
from polyana.rewards.text import LengthPartConfig, final_number

__all__ = [
    "Answered",
    "HumanPartConfig",
    "JudgeDown",
    "JudgePartConfig",
    "LengthPartConfig",
    "Needs",
    "Part",
    "PartConfig",
    "Reward",
    "RewardPart",
    "RewardParts",
    "ScoreLedger",
    "Scored",
    "Surroundings",
    "Weighed",
    "final_number",
    "open_reward",
    "part_problems",
    "stage_in",
]
