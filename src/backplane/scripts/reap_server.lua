-- Removes a server whose lease has expired, and its clients, unless another server has done so.
-- ARGV: its id.
local dead = ARGV[3]
if redis.call('EXISTS', p .. 'srv:' .. dead) == 1 then return { 'lives' } end
if redis.call('HDEL', p .. 'servers', dead) == 0 then return { 'again' } end
take_out(dead, function() return false end)
forget_inbox(dead)
return { 'ok' }
