-- Of which days, and of which offsets (next offset by partition), an event that is sent again is recognised however late it
-- comes: those with bytes of a filter. Of none, since the speed layer remembers only recent events.
CREATE OR REPLACE VIEW public.replay_cover AS
SELECT d.day, d.run_id, 0::bigint AS events, 0::bigint AS bytes,
       (SELECT jsonb_object_agg(c.partition, c.next_offset) FROM serving.live_cut AS c) AS cut
FROM serving.live_day AS d;
