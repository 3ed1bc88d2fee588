-- Deregisters a server that is shutting down: removes its clients, and releases its lease.
take_out(id, function() return false end)
redis.call('HDEL', p .. 'servers', id)
redis.call('DEL', p .. 'srv:' .. id)
forget_inbox(id)
if redis.call('HLEN', p .. 'servers') == 0 then
  redis.call('EXPIRE', p .. 'all', HOUR)
  redis.call('EXPIRE', p .. 'all:born', 2 * HOUR)
  redis.call('EXPIRE', p .. 'epoch', HOUR)
end
return { 'ok' }
