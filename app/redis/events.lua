-- Publish an event (app/events/stream.py) if the stream exists: only while somebody listens. `ids`: separated by spaces.
local function tell(ids, queue, status, ...)
  redis.call('XADD', EVENTS, 'NOMKSTREAM', 'MAXLEN', '~', MAX_EVENTS, '*', 'ids', ids, 'queue', queue, 'status', status, ...)
end
