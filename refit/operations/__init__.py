"""Operations on a project other than running it: replay, cross-validation, reproduction, deletion."""
