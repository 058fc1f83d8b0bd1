-- The words of what videos are called and captioned, folded and apart (library/words.py): of a name under minus the
-- number of its video, of a caption under 2^24 times that number and its position.
CREATE VIRTUAL TABLE about_words USING fts5(words, tokenize='porter ascii');
CREATE TRIGGER about_video_added AFTER INSERT ON changes WHEN new.video IS NOT NULL BEGIN
  INSERT INTO about_words(rowid, words) SELECT -new.number, name_words(id, path) FROM videos WHERE id = new.video;
END;
CREATE TRIGGER about_video_removed AFTER UPDATE OF video ON changes WHEN new.video IS NULL BEGIN
  DELETE FROM about_words WHERE rowid = -old.number;
  DELETE FROM about_words WHERE rowid BETWEEN old.number << 24 AND (old.number + 1 << 24) - 1;
END;
CREATE TRIGGER about_name_changed AFTER UPDATE OF id, path ON videos
WHEN old.id IS NOT new.id OR old.path IS NOT new.path BEGIN
  DELETE FROM about_words WHERE rowid IN (SELECT -number FROM changes WHERE video IN (old.id, new.id));
  INSERT INTO about_words(rowid, words)
    SELECT -number, name_words(new.id, new.path) FROM changes WHERE video IN (old.id, new.id);
END;
CREATE TRIGGER about_caption_added AFTER INSERT ON captions BEGIN
  INSERT INTO about_words(rowid, words)
    SELECT (number << 24) + new.position, folded_words(new.text) FROM changes WHERE video = new.video;
END;
CREATE TRIGGER about_caption_removed AFTER DELETE ON captions BEGIN
  DELETE FROM about_words WHERE rowid IN (SELECT (number << 24) + old.position FROM changes WHERE video = old.video);
END;
CREATE TRIGGER about_caption_changed AFTER UPDATE OF video, position, text ON captions BEGIN
  DELETE FROM about_words WHERE rowid IN (SELECT (number << 24) + old.position FROM changes WHERE video = old.video);
  INSERT INTO about_words(rowid, words)
    SELECT (number << 24) + new.position, folded_words(new.text) FROM changes WHERE video = new.video;
END;
