"""Patients by file name, where a public data set's names tell them.

Standard library only: competitions use it while they are listed, long before OpenCV is needed.
"""

import re

# Kermany's public names: person<N>_<bacteria|virus>_<film>, IM-<N>-<film>, NORMAL2-IM-<N>-<film>.
# person<N> alone is reused between the two subtypes, so the subtype belongs to the key.
PATIENT_PATTERN = re.compile(r"(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[_-]\d+")


def patient_key(name: str) -> str | None:
    """The patient a film's name tells, or None for a name of another kind.

    ``person1_virus_6`` -> ``person1_virus``, ``IM-0115-0001.jpeg`` -> ``IM-0115``. Inferred from the
    public names, not documented; normal films are not proven patient-clean by it.
    """
    found = PATIENT_PATTERN.match(name.replace("\\", "/").rpartition("/")[2])
    return found[1] if found else None
