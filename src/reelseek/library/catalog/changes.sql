-- What triggers keep, whoever writes: which videos changed, what they are called, how many tracks there are.
-- One row a video that is or was here. Its number is never used again; what is
-- removed keeps its number and loses its id, so that nothing of it stays.
CREATE TABLE changes (
  number INTEGER PRIMARY KEY,
  video TEXT UNIQUE,           -- NULL: it was removed
  features INTEGER NOT NULL,   -- revision at which its length, cuts or tracks last changed
  words INTEGER NOT NULL       -- revision at which what is said, written, labelled or captioned last changed
);
CREATE INDEX changes_features ON changes(features);
CREATE INDEX changes_words ON changes(words);
-- What videos are called: a hash of the last part of each id and path, in every form by which it is looked up
-- (`name_keys`); who looks one up compares the names themselves.
CREATE TABLE names (key INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (key, number)) WITHOUT ROWID;
-- How many tracks there are of each kind, how many of them have steps, and how many were ever removed or replaced
CREATE TABLE track_groups (
  expert TEXT NOT NULL, fingerprint TEXT NOT NULL, modality TEXT NOT NULL, dim INTEGER NOT NULL, dtype TEXT NOT NULL,
  tracks INTEGER NOT NULL, present INTEGER NOT NULL, removed INTEGER NOT NULL,
  PRIMARY KEY (expert, fingerprint, modality, dim, dtype)
) WITHOUT ROWID;
-- Shards that hold bytes of tracks that were removed or replaced, until they are compacted
CREATE TABLE holes (
  fingerprint TEXT NOT NULL, shard INTEGER NOT NULL, dim INTEGER NOT NULL, dtype TEXT NOT NULL,
  PRIMARY KEY (fingerprint, shard)
) WITHOUT ROWID;
CREATE INDEX failures_path ON failures(path) WHERE expert = '';
-- The revision of the transaction at hand: its commit makes the library's one of it
CREATE VIEW next_revision AS SELECT coalesce((SELECT value FROM meta WHERE key = 'revision'), 0) + 1 AS number;

CREATE TRIGGER changes_video_added AFTER INSERT ON videos BEGIN
  INSERT INTO changes(video, features, words) SELECT new.id, number, number FROM next_revision;
  INSERT INTO names SELECT value, (SELECT number FROM changes WHERE video = new.id)
    FROM json_each(name_keys(new.id, new.path));
END;
CREATE TRIGGER changes_video_removed AFTER DELETE ON videos BEGIN
  DELETE FROM names WHERE key IN (SELECT value FROM json_each(name_keys(old.id, old.path)))
    AND number = (SELECT number FROM changes WHERE video = old.id);
  UPDATE changes SET video = NULL, features = (SELECT number FROM next_revision),
    words = (SELECT number FROM next_revision) WHERE video = old.id;
END;
CREATE TRIGGER changes_video_changed AFTER UPDATE OF id, content, duration ON videos
WHEN old.id IS NOT new.id OR old.content IS NOT new.content OR old.duration IS NOT new.duration BEGIN
  UPDATE changes SET video = new.id, features = (SELECT number FROM next_revision),
    words = (SELECT number FROM next_revision) WHERE video = old.id;
END;
CREATE TRIGGER names_of_video_changed AFTER UPDATE OF id, path ON videos
WHEN old.id IS NOT new.id OR old.path IS NOT new.path BEGIN
  DELETE FROM names WHERE key IN (SELECT value FROM json_each(name_keys(old.id, old.path)))
    AND number IN (SELECT number FROM changes WHERE video IN (old.id, new.id));
  INSERT INTO names SELECT value, (SELECT number FROM changes WHERE video IN (old.id, new.id))
    FROM json_each(name_keys(new.id, new.path));
END;

CREATE TRIGGER changes_track_added AFTER INSERT ON tracks BEGIN
  INSERT INTO track_groups VALUES (new.expert, new.fingerprint, new.modality, new.dim, new.dtype, 1, new.steps > 0, 0)
    ON CONFLICT DO UPDATE SET tracks = tracks + 1, present = present + excluded.present;
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE features <> (SELECT number FROM next_revision) AND video IN (
    SELECT id FROM videos WHERE content = new.owner
    UNION ALL SELECT substr(new.owner, 4) WHERE new.owner GLOB 'id:*');
END;
CREATE TRIGGER changes_track_removed AFTER DELETE ON tracks BEGIN
  INSERT INTO holes SELECT old.fingerprint, old.shard, old.dim, old.dtype WHERE old.steps > 0 ON CONFLICT DO NOTHING;
  UPDATE track_groups SET tracks = tracks - 1, present = present - (old.steps > 0), removed = removed + 1
    WHERE expert = old.expert
    AND fingerprint = old.fingerprint AND modality = old.modality AND dim = old.dim AND dtype = old.dtype;
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE features <> (SELECT number FROM next_revision) AND video IN (
    SELECT id FROM videos WHERE content = old.owner
    UNION ALL SELECT substr(old.owner, 4) WHERE old.owner GLOB 'id:*');
END;
-- Where its bytes lie is no part of what a track is.
CREATE TRIGGER changes_track_changed AFTER UPDATE OF owner, expert, fingerprint, modality, steps, dim, dtype, sha256
ON tracks BEGIN
  UPDATE track_groups SET tracks = tracks - 1, present = present - (old.steps > 0), removed = removed + 1
    WHERE expert = old.expert
    AND fingerprint = old.fingerprint AND modality = old.modality AND dim = old.dim AND dtype = old.dtype;
  INSERT INTO track_groups VALUES (new.expert, new.fingerprint, new.modality, new.dim, new.dtype, 1, new.steps > 0, 0)
    ON CONFLICT DO UPDATE SET tracks = tracks + 1, present = present + excluded.present;
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE features <> (SELECT number FROM next_revision) AND video IN (
    SELECT id FROM videos WHERE content IN (old.owner, new.owner)
    UNION ALL SELECT substr(old.owner, 4) WHERE old.owner GLOB 'id:*'
    UNION ALL SELECT substr(new.owner, 4) WHERE new.owner GLOB 'id:*');
END;

CREATE TRIGGER changes_content_added AFTER INSERT ON contents BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE features <> (SELECT number FROM next_revision) AND video IN (SELECT id FROM videos WHERE content = new.hash);
END;
CREATE TRIGGER changes_content_removed AFTER DELETE ON contents BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE features <> (SELECT number FROM next_revision) AND video IN (SELECT id FROM videos WHERE content = old.hash);
END;
CREATE TRIGGER changes_content_changed AFTER UPDATE OF hash, cuts ON contents
WHEN old.hash IS NOT new.hash OR old.cuts IS NOT new.cuts BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE features <> (SELECT number FROM next_revision)
      AND video IN (SELECT id FROM videos WHERE content IN (old.hash, new.hash));
END;

CREATE TRIGGER changes_text_added AFTER INSERT ON texts BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision)
    WHERE words <> (SELECT number FROM next_revision) AND video IN (
    SELECT id FROM videos WHERE content = new.owner
    UNION ALL SELECT substr(new.owner, 4) WHERE new.owner GLOB 'id:*');
END;
CREATE TRIGGER changes_text_removed AFTER DELETE ON texts BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision)
    WHERE words <> (SELECT number FROM next_revision) AND video IN (
    SELECT id FROM videos WHERE content = old.owner
    UNION ALL SELECT substr(old.owner, 4) WHERE old.owner GLOB 'id:*');
END;
CREATE TRIGGER changes_text_changed AFTER UPDATE ON texts BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision)
    WHERE words <> (SELECT number FROM next_revision) AND video IN (
    SELECT id FROM videos WHERE content IN (old.owner, new.owner)
    UNION ALL SELECT substr(old.owner, 4) WHERE old.owner GLOB 'id:*'
    UNION ALL SELECT substr(new.owner, 4) WHERE new.owner GLOB 'id:*');
END;

CREATE TRIGGER changes_caption_added AFTER INSERT ON captions BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision)
    WHERE words <> (SELECT number FROM next_revision) AND video = new.video;
END;
CREATE TRIGGER changes_caption_removed AFTER DELETE ON captions BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision)
    WHERE words <> (SELECT number FROM next_revision) AND video = old.video;
END;
CREATE TRIGGER changes_caption_changed AFTER UPDATE ON captions BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision)
    WHERE words <> (SELECT number FROM next_revision) AND video IN (old.video, new.video);
END;
