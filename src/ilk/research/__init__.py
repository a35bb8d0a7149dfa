"""Many trainings on labelled sets: comparisons, studies, benchmarks, and the papers' published tables.

Labels score here and choose nothing, except where `select="oracle_acc"` asks for it (`oracle`).

    labelled       a labelled image set: images, label codes, perhaps a published split
    baselines      scikit-learn's clusterings, by name
    oracle         the rule by which labels choose an epoch, as some papers do
    grid/          jobs (one training or baseline each), done once and kept in a file of rows
    score_tables   rows -> means over seeds -> Markdown, LaTeX, Parquet
    published      the papers' tables of scores, with protocols and misprints
    compare/       `ilk compare`: methods and baselines side by side
    study/         `ilk study`: the papers' ablations, and whether their conclusions hold here
    bench/         `ilk bench`: speed and memory, compared with other libraries
"""
