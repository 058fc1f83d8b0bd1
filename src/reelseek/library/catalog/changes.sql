-- One row a video that is or was here, kept by the triggers below whoever writes. Its number is never used again; what is
-- removed keeps its number and loses its id, so that nothing of it stays.
CREATE TABLE changes (
  number INTEGER PRIMARY KEY,
  video TEXT UNIQUE,           -- NULL: it was removed
  features INTEGER NOT NULL,   -- revision at which its length, cuts or tracks last changed
  words INTEGER NOT NULL       -- revision at which what is said, written, labelled or captioned last changed
);
CREATE INDEX changes_features ON changes(features);
CREATE INDEX changes_words ON changes(words);
-- The revision of the transaction at hand: its commit makes the library's one of it
CREATE VIEW next_revision AS SELECT coalesce((SELECT value FROM meta WHERE key = 'revision'), 0) + 1 AS number;

CREATE TRIGGER changes_video_added AFTER INSERT ON videos BEGIN
  INSERT INTO changes(video, features, words) SELECT new.id, number, number FROM next_revision;
END;
CREATE TRIGGER changes_video_removed AFTER DELETE ON videos BEGIN
  UPDATE changes SET video = NULL, features = (SELECT number FROM next_revision),
    words = (SELECT number FROM next_revision) WHERE video = old.id;
END;
CREATE TRIGGER changes_video_changed AFTER UPDATE OF id, content, duration ON videos
WHEN old.id IS NOT new.id OR old.content IS NOT new.content OR old.duration IS NOT new.duration BEGIN
  UPDATE changes SET video = new.id, features = (SELECT number FROM next_revision),
    words = (SELECT number FROM next_revision) WHERE video = old.id;
END;

CREATE TRIGGER changes_track_added AFTER INSERT ON tracks BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision) WHERE video IN (
    SELECT id FROM videos WHERE content = new.owner
    UNION ALL SELECT substr(new.owner, 4) WHERE new.owner GLOB 'id:*');
END;
CREATE TRIGGER changes_track_removed AFTER DELETE ON tracks BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision) WHERE video IN (
    SELECT id FROM videos WHERE content = old.owner
    UNION ALL SELECT substr(old.owner, 4) WHERE old.owner GLOB 'id:*');
END;
-- Where its bytes lie is no part of what a track is.
CREATE TRIGGER changes_track_changed AFTER UPDATE OF owner, expert, fingerprint, modality, steps, dim, dtype, sha256
ON tracks BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision) WHERE video IN (
    SELECT id FROM videos WHERE content IN (old.owner, new.owner)
    UNION ALL SELECT substr(old.owner, 4) WHERE old.owner GLOB 'id:*'
    UNION ALL SELECT substr(new.owner, 4) WHERE new.owner GLOB 'id:*');
END;

CREATE TRIGGER changes_content_added AFTER INSERT ON contents BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE video IN (SELECT id FROM videos WHERE content = new.hash);
END;
CREATE TRIGGER changes_content_removed AFTER DELETE ON contents BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE video IN (SELECT id FROM videos WHERE content = old.hash);
END;
CREATE TRIGGER changes_content_changed AFTER UPDATE OF hash, cuts ON contents
WHEN old.hash IS NOT new.hash OR old.cuts IS NOT new.cuts BEGIN
  UPDATE changes SET features = (SELECT number FROM next_revision)
    WHERE video IN (SELECT id FROM videos WHERE content IN (old.hash, new.hash));
END;

CREATE TRIGGER changes_text_added AFTER INSERT ON texts BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision) WHERE video IN (
    SELECT id FROM videos WHERE content = new.owner
    UNION ALL SELECT substr(new.owner, 4) WHERE new.owner GLOB 'id:*');
END;
CREATE TRIGGER changes_text_removed AFTER DELETE ON texts BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision) WHERE video IN (
    SELECT id FROM videos WHERE content = old.owner
    UNION ALL SELECT substr(old.owner, 4) WHERE old.owner GLOB 'id:*');
END;
CREATE TRIGGER changes_text_changed AFTER UPDATE ON texts BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision) WHERE video IN (
    SELECT id FROM videos WHERE content IN (old.owner, new.owner)
    UNION ALL SELECT substr(old.owner, 4) WHERE old.owner GLOB 'id:*'
    UNION ALL SELECT substr(new.owner, 4) WHERE new.owner GLOB 'id:*');
END;

CREATE TRIGGER changes_caption_added AFTER INSERT ON captions BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision) WHERE video = new.video;
END;
CREATE TRIGGER changes_caption_removed AFTER DELETE ON captions BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision) WHERE video = old.video;
END;
CREATE TRIGGER changes_caption_changed AFTER UPDATE ON captions BEGIN
  UPDATE changes SET words = (SELECT number FROM next_revision) WHERE video IN (old.video, new.video);
END;
