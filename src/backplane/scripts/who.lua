-- Returns the name and the server of each client that has logged in.
local answer = { 'ok' }
for _, holder in ipairs(redis.call('HVALS', p .. 'names')) do
  local server, _, _, spelled = string.match(holder, '^(%S+) (%S+) (%S+) (%S+)$')
  if alive(holder) then table.insert(answer, spelled) table.insert(answer, server) end
end
return answer
