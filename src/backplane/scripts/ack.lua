-- Sends the receipt for a direct message. ARGV: the sender's server, the receipt's number, '1' if
-- the message was delivered.
push('inbox:' .. ARGV[3], 'k', 'ack', 'a', ARGV[4], 'd', ARGV[5])
return { 'ok' }
