-- Sums that triggers keep, whoever writes, so that nobody reads every row to know them.
CREATE TABLE IF NOT EXISTS video_totals (   -- one row
  videos INTEGER NOT NULL, with_content INTEGER NOT NULL,
  microseconds INTEGER NOT NULL             -- whole numbers: adding and taking away leaves no rest
);
CREATE TABLE IF NOT EXISTS caption_totals (split TEXT PRIMARY KEY, captions INTEGER NOT NULL) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS totals_video_added AFTER INSERT ON videos BEGIN
  UPDATE video_totals SET videos = videos + 1, with_content = with_content + (new.content IS NOT NULL),
    microseconds = microseconds + CAST(round(1e6 * coalesce(new.duration, 0)) AS INTEGER);
END;
CREATE TRIGGER IF NOT EXISTS totals_video_removed AFTER DELETE ON videos BEGIN
  UPDATE video_totals SET videos = videos - 1, with_content = with_content - (old.content IS NOT NULL),
    microseconds = microseconds - CAST(round(1e6 * coalesce(old.duration, 0)) AS INTEGER);
END;
CREATE TRIGGER IF NOT EXISTS totals_video_changed AFTER UPDATE OF content, duration ON videos BEGIN
  UPDATE video_totals SET with_content = with_content + (new.content IS NOT NULL) - (old.content IS NOT NULL),
    microseconds = microseconds + CAST(round(1e6 * coalesce(new.duration, 0)) AS INTEGER)
      - CAST(round(1e6 * coalesce(old.duration, 0)) AS INTEGER);
END;

CREATE TRIGGER IF NOT EXISTS totals_caption_added AFTER INSERT ON captions BEGIN
  INSERT INTO caption_totals VALUES (coalesce(new.split, ''), 1) ON CONFLICT DO UPDATE SET captions = captions + 1;
END;
CREATE TRIGGER IF NOT EXISTS totals_caption_removed AFTER DELETE ON captions BEGIN
  UPDATE caption_totals SET captions = captions - 1 WHERE split = coalesce(old.split, '');
END;
CREATE TRIGGER IF NOT EXISTS totals_caption_changed AFTER UPDATE OF split ON captions BEGIN
  UPDATE caption_totals SET captions = captions - 1 WHERE split = coalesce(old.split, '');
  INSERT INTO caption_totals VALUES (coalesce(new.split, ''), 1) ON CONFLICT DO UPDATE SET captions = captions + 1;
END;

DELETE FROM video_totals;
INSERT INTO video_totals SELECT count(*), count(content),
  coalesce(sum(CAST(round(1e6 * coalesce(duration, 0)) AS INTEGER)), 0) FROM videos;
DELETE FROM caption_totals;
INSERT INTO caption_totals SELECT coalesce(split, ''), count(*) FROM captions GROUP BY 1;
