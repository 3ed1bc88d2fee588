-- Returns the name and the number of members of each room.
local answer = { 'ok' }
local rooms = redis.call('HGETALL', p .. 'rooms')
for i = 1, #rooms, 2 do
  table.insert(answer, rooms[i + 1])
  table.insert(answer, redis.call('HLEN', p .. 'room:' .. rooms[i] .. ':members'))
end
return answer
