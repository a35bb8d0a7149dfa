"""How each method is called and cited; a table of its own, because `ilk.methods` loads torch."""

from __future__ import annotations

from typing import NamedTuple


class Paper(NamedTuple):
    title: str
    source: str
    bibtex: str


PAPERS = {
    "cc": Paper(
        "Contrastive Clustering",
        "Li et al., AAAI 2021",
        """@inproceedings{li2021contrastive,
  title = {Contrastive Clustering},
  author = {Li, Yunfan and Hu, Peng and Liu, Zitao and Peng, Dezhong and Zhou, Joey Tianyi and Peng, Xi},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {35},
  number = {10},
  pages = {8547--8555},
  year = {2021}
}""",
    ),
    "crlc": Paper(
        "Clustering by Maximizing Mutual Information Across Views",
        "Do et al., ICCV 2021",
        """@inproceedings{do2021clustering,
  title = {Clustering by Maximizing Mutual Information Across Views},
  author = {Do, Kien and Tran, Truyen and Venkatesh, Svetha},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  year = {2021}
}""",
    ),
    "scl": Paper(
        "Deep Clustering by Semantic Contrastive Learning",
        "Huang and Gong, BMVC 2022",
        """@inproceedings{huang2022deep,
  title = {Deep Clustering by Semantic Contrastive Learning},
  author = {Huang, Jiabo and Gong, Shaogang},
  booktitle = {British Machine Vision Conference (BMVC)},
  year = {2022}
}""",
    ),
    "dcdc": Paper(
        "Doubly Contrastive Deep Clustering",
        "Dang et al., 2021",
        """@misc{dang2021doubly,
  title = {Doubly Contrastive Deep Clustering},
  author = {Dang, Zhiyuan and Deng, Cheng and Yang, Xu and Huang, Heng},
  year = {2021},
  eprint = {2103.05484},
  archivePrefix = {arXiv}
}""",
    ),
    "c2bin": Paper(
        "Contrasting Clusters while Bootstrapping Instances",
        "anonymous, submitted to ICLR 2021",
        """@unpublished{c2bin2021,
  title = {Contrasting Clusters while Bootstrapping Instances},
  author = {Anonymous},
  note = {Submitted to the International Conference on Learning Representations (ICLR)},
  year = {2021}
}""",
    ),
}


def paper_of(method: str) -> Paper:
    """The paper of a method; its bare name where the table does not know it."""
    return PAPERS.get(method, Paper(method, "", ""))
