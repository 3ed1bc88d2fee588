-- Every room: its name and how many are in it.
local answer = { 'ok' }
local rooms = redis.call('HGETALL', p .. 'rooms')
for i = 1, #rooms, 2 do
  table.insert(answer, rooms[i + 1])
  table.insert(answer, redis.call('HLEN', p .. 'room:' .. rooms[i] .. ':members'))
end
return answer
