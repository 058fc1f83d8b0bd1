-- One row a path (or a table's id); byte-identical files share what belongs to their content.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE videos (
  id TEXT PRIMARY KEY,
  path BLOB UNIQUE,           -- bytes of the absolute path, NULL where the file is not at hand
  content TEXT,               -- SHA-256 of the file's bytes, NULL until it was read
  size INTEGER, mtime_ns INTEGER,
  duration REAL,              -- seconds
  split TEXT                  -- for videos without captions
) WITHOUT ROWID;
CREATE INDEX videos_content ON videos(content);
CREATE TABLE captions (
  video TEXT NOT NULL REFERENCES videos(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  text TEXT NOT NULL,
  start_seconds REAL, end_seconds REAL,
  split TEXT,
  PRIMARY KEY (video, position)
) WITHOUT ROWID;
-- Videos of a split that a list gave, in its order
CREATE TABLE memberships (
  split TEXT NOT NULL, video TEXT NOT NULL REFERENCES videos(id) ON DELETE CASCADE, position INTEGER NOT NULL,
  PRIMARY KEY (split, video)
) WITHOUT ROWID;
CREATE TABLE contents (hash TEXT PRIMARY KEY, info TEXT NOT NULL, end_seconds REAL NOT NULL, cuts TEXT NOT NULL) WITHOUT ROWID;
-- owner: a content's hash, or 'id:' and a video id for imported features
CREATE TABLE tracks (
  owner TEXT NOT NULL, expert TEXT NOT NULL,
  fingerprint TEXT NOT NULL, modality TEXT NOT NULL,
  shard INTEGER NOT NULL, first_row INTEGER NOT NULL, steps INTEGER NOT NULL,
  dim INTEGER NOT NULL, dtype TEXT NOT NULL,
  sha256 TEXT NOT NULL, note TEXT NOT NULL,
  PRIMARY KEY (owner, expert)
) WITHOUT ROWID;
CREATE INDEX tracks_expert ON tracks(expert);
CREATE INDEX tracks_place ON tracks(fingerprint, shard, first_row, steps);
CREATE TABLE texts (
  id INTEGER PRIMARY KEY,
  owner TEXT NOT NULL, expert TEXT NOT NULL, kind TEXT NOT NULL,
  text TEXT NOT NULL, start_seconds REAL NOT NULL, end_seconds REAL NOT NULL, score REAL NOT NULL
);
CREATE INDEX texts_owner ON texts(owner, expert);
-- The words of each text under its id, folded and apart (library/words.py); `texts` keeps what was said or written.
CREATE VIRTUAL TABLE texts_words USING fts5(words, tokenize='porter ascii');
CREATE TRIGGER texts_removed AFTER DELETE ON texts BEGIN
  DELETE FROM texts_words WHERE rowid = old.id;
END;
CREATE TABLE thumbnails (owner TEXT NOT NULL, seconds REAL NOT NULL, jpeg BLOB NOT NULL, PRIMARY KEY (owner, seconds)) WITHOUT ROWID;
CREATE TABLE failures (
  video TEXT NOT NULL, expert TEXT NOT NULL,   -- expert '' is the file itself
  path BLOB, size INTEGER, mtime_ns INTEGER,
  reason TEXT NOT NULL, attempts INTEGER NOT NULL,
  PRIMARY KEY (video, expert)
) WITHOUT ROWID;
-- What was guessed, mended or left out; owner as in tracks
CREATE TABLE notices (
  owner TEXT NOT NULL, place TEXT NOT NULL, message TEXT NOT NULL, lost INTEGER NOT NULL,
  PRIMARY KEY (owner, place, message)
) WITHOUT ROWID;
-- Subtitle files as they were when an owner's words were read
CREATE TABLE sidecars (
  owner TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  PRIMARY KEY (owner, name, size, mtime_ns)
) WITHOUT ROWID;
