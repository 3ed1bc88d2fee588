-- Publishes a message to all clients, or to a room. ARGV: session, the sender's key and name, the
-- room's key ('' for all), text, '1' if it is an action.
local session, key, spelled, room, text, me = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local mine = id .. ' ' .. incarnation .. ' ' .. session .. ' ' .. spelled
local stream, among = 'all', p .. 'names'
if room ~= '' then stream, among = 'room:' .. room, p .. 'room:' .. room .. ':members' end
if redis.call('HGET', among, key) ~= mine then return { 'not-yours' } end
-- Older servers need the time in seconds in a room's messages. Other entries omit it, because each
-- field costs time on every server that reads it.
local kind = me == '1' and 'acted' or 'said'
local number, at = next_message()
local entry
if room == '' then entry = push(stream, 'k', kind, 'o', mine, 't', text, 'i', number)
else entry = push(stream, 'k', kind, 'o', mine, 't', text, 'i', number, 'at', at) end
return { 'ok', redis.call('HLEN', among) - 1, entry }
