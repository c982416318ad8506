-- The days that were summed up: asked for every half minute, inside the write transaction, and alerts are many.

CREATE INDEX idx_alerts_summaries ON alerts (data ->> '$.day') WHERE event = 'daily_summary';
