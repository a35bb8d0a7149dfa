"""The papers of ilk's methods: what methods call themselves, and what reports cite, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Paper(NamedTuple):
    """A paper. `source`: authors, venue and year in short; `entry`, `key`, `fields`: its BibTeX entry."""

    title: str
    source: str
    entry: str = ""
    key: str = ""
    fields: Mapping[str, str] = {}

    @property
    def bibtex(self) -> str:
        """The BibTeX entry; empty for a paper without one."""
        if not self.entry:
            return ""
        fields = {"title": self.title, **self.fields}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@{self.entry}{{{self.key},\n{lines}\n}}"


PAPERS = {
    "cc": Paper(
        "Contrastive Clustering",
        "Li et al., AAAI 2021",
        "inproceedings",
        "li2021contrastive",
        {
            "author": "Li, Yunfan and Hu, Peng and Liu, Zitao and Peng, Dezhong and Zhou, Joey Tianyi and Peng, Xi",
            "booktitle": "Proceedings of the AAAI Conference on Artificial Intelligence",
            "volume": "35",
            "number": "10",
            "pages": "8547--8555",
            "year": "2021",
        },
    ),
    "crlc": Paper(
        "Clustering by Maximizing Mutual Information Across Views",
        "Do et al., ICCV 2021",
        "inproceedings",
        "do2021clustering",
        {
            "author": "Do, Kien and Tran, Truyen and Venkatesh, Svetha",
            "booktitle": "Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)",
            "year": "2021",
        },
    ),
    "scl": Paper(
        "Deep Clustering by Semantic Contrastive Learning",
        "Huang and Gong, BMVC 2022",
        "inproceedings",
        "huang2022deep",
        {
            "author": "Huang, Jiabo and Gong, Shaogang",
            "booktitle": "British Machine Vision Conference (BMVC)",
            "year": "2022",
        },
    ),
    "dcdc": Paper(
        "Doubly Contrastive Deep Clustering",
        "Dang et al., 2021",
        "misc",
        "dang2021doubly",
        {
            "author": "Dang, Zhiyuan and Deng, Cheng and Yang, Xu and Huang, Heng",
            "year": "2021",
            "eprint": "2103.05484",
            "archivePrefix": "arXiv",
        },
    ),
    "c2bin": Paper(
        "Contrasting Clusters while Bootstrapping Instances",
        "anonymous, submitted to ICLR 2021",
        "unpublished",
        "c2bin2021",
        {
            "author": "Anonymous",
            "note": "Submitted to the International Conference on Learning Representations (ICLR)",
            "year": "2021",
        },
    ),
}


def paper_of(method: str) -> Paper:
    """The paper of a method by its name; one that has the bare name as its title for methods of other packages."""
    return PAPERS.get(method, Paper(method, ""))
