-- Opens a room on this server. ARGV: the room's key and name, the maximum number of old messages.
-- Returns its name, its stream's position, its topic ('', or the name of the client that set it, a
-- space and the text), and for each old message: id, time, sender, '1' if it is an action, text.
local room, spelled, most = ARGV[3], ARGV[4], tonumber(ARGV[5])
local key = p .. 'room:' .. room
local answer = {
  'ok', redis.call('HGET', p .. 'rooms', room) or spelled,
  place('room:' .. room), redis.call('GET', key .. ':topic') or '',
}
if most == 0 or redis.call('HLEN', key .. ':members') == 0 then return answer end
-- Messages sent before the room last ended are not shown.
local from = redis.call('GET', key .. ':from') or '0-0'
-- The entries also include joins and departures, so read more than `most`.
local entries, old = redis.call('XREVRANGE', key, '+', '(' .. from, 'COUNT', 4 * most), {}
for _, entry in ipairs(entries) do
  local f = {}
  for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
  if (f.k == 'said' or f.k == 'acted') and #old < most then table.insert(old, f) end
end
for i = #old, 1, -1 do
  local f = old[i]
  local who, me = string.match(f.o, '%S+$'), f.k == 'acted' and '1' or '0'
  for _, word in ipairs({ f.i or '', f.at, who, me, f.t }) do table.insert(answer, word) end
end
return answer
