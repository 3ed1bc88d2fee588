-- Returns the names of a room's members. ARGV: the room's key.
local answer = { 'ok' }
for _, holder in ipairs(redis.call('HVALS', p .. 'room:' .. ARGV[3] .. ':members')) do
  local spelled = string.match(holder, '^%S+ %S+ %S+ (%S+)$')
  if alive(holder) then table.insert(answer, spelled) end
end
return answer
