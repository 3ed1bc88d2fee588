-- Something said to all, or in a room. ARGV: session, the speaker's key and name, the room's key ('' for all), text, '1' if an action.
local session, key, spelled, room, text, me = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local mine = id .. ' ' .. incarnation .. ' ' .. session .. ' ' .. spelled
local stream, among = 'all', p .. 'names'
if room ~= '' then stream, among = 'room:' .. room, p .. 'room:' .. room .. ':members' end
if redis.call('HGET', among, key) ~= mine then return { 'not-yours' } end
-- When it was is asked of a room's history only. Each field costs every server that reads it.
local kind = me == '1' and 'acted' or 'said'
local entry
if room == '' then entry = push(stream, 'k', kind, 'o', mine, 't', text)
else entry = push(stream, 'k', kind, 'o', mine, 't', text, 'at', redis.call('TIME')[1]) end
return { 'ok', redis.call('HLEN', among) - 1, entry }
