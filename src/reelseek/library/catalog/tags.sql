-- Words that people put on videos, or on moments of them; what is removed takes its tags along.
CREATE TABLE IF NOT EXISTS tags (
  video TEXT NOT NULL REFERENCES videos(id) ON DELETE CASCADE,
  text TEXT NOT NULL,
  folded TEXT NOT NULL,        -- how tags are compared (`fold`)
  start_seconds REAL, end_seconds REAL   -- of a moment; NULL: of the whole video
);
CREATE UNIQUE INDEX IF NOT EXISTS tags_once ON tags(video, folded, ifnull(start_seconds, -1), ifnull(end_seconds, -1));
CREATE INDEX IF NOT EXISTS tags_folded ON tags(folded);
