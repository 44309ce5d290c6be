"""How often the class is right, and how often each of its two bits is."""

from __future__ import annotations

from fusion_train.metrics import Share
from fusion_train.proof.rows import MEASURES
from fusion_train.scores import ScoreTable


def shares(table: ScoreTable) -> dict[str, Share]:
    """By measure (`rows.MEASURES`), the share of videos that is right.

    The label is 2 * binding + order. The bits of an answer are those of the class with the highest score, so that two
    tables with half of the classes right can be told apart.
    """
    answers = table.scores.argmax(1)
    right = (
        answers == table.labels,
        answers // 2 == table.labels // 2,
        answers % 2 == table.labels % 2,
    )
    return {
        name: Share(num_right=int(videos.sum()), num_videos=len(table.ids))
        for name, videos in zip(MEASURES, right, strict=True)
    }
