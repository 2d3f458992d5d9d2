"""What a recipe would do, before it does it: which stages run, and what each training needs of memory, disk and time.

figures     what is planned
stages      the plan of a recipe
training    the plan of one training: counted, and measured in a rehearsal (polyana/rehearse.py)
picture     how it is shown
"""

from polyana.plan.figures import Choice, Disk, Memory, RecipePlan, StagePlan, Time, Training
from polyana.plan.picture import picture
from polyana.plan.stages import plan_recipe

__all__ = ["Choice", "Disk", "Memory", "RecipePlan", "StagePlan", "Time", "Training", "picture", "plan_recipe"]
