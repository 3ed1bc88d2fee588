-- A server ends in order: its people have left, and its lease is nobody's.
take_out(id, function() return false end)
redis.call('HDEL', p .. 'servers', id)
redis.call('DEL', p .. 'srv:' .. id, p .. 'inbox:' .. id)
redis.call('EXPIRE', p .. 'inbox:' .. id .. ':n', HOUR)
for _, key in ipairs({ 'all', 'all:n', 'epoch' }) do
  if redis.call('HLEN', p .. 'servers') == 0 then redis.call('EXPIRE', p .. key, HOUR) end
end
return { 'ok' }
