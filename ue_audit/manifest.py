"""What ue-audit knows about its own outputs, in one place for the stages.

    statement.py   the manifest's content and form, digests of files and trees
    lineage.py     manifests on disk, parents, the newest output of a stage
    verify.py      is an output what its manifest says?
"""

from ue_audit.digests import canonical, file_sha256, tree_digest
from ue_audit.lineage import (
    ancestors,
    check_taken,
    clean_of,
    dependency,
    find,
    image_of,
    locate,
    newest,
    read,
    records,
    refuse_part,
    source_digest,
    test_of,
    val_of,
)  # fmt: skip
from ue_audit.statement import (
    JOURNAL,
    MANIFEST,
    RECORDS,
    SUMS,
    Budget,
    Dependency,
    Manifest,
    RunDetails,
    sidecar,
    statement,
    versions,
)  # fmt: skip
from ue_audit.verify import Problem, Verification, verify

__all__ = [
    "JOURNAL", "MANIFEST", "RECORDS", "SUMS", "Budget", "Dependency", "Manifest", "Problem", "RunDetails",
    "Verification", "ancestors", "canonical", "check_taken", "clean_of", "dependency", "file_sha256", "find",
    "image_of", "locate", "newest", "read", "records", "refuse_part", "sidecar", "source_digest", "statement",
    "test_of", "tree_digest", "val_of", "verify", "versions",
]  # fmt: skip
