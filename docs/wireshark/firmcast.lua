-- Wireshark dissector for the firmcast protocol (docs/PROTOCOL.md).
--
-- Copy it to the folder "Personal Lua Plugins" (Help > About Wireshark > Folders), or:
--     tshark -X lua_script:docs/wireshark/firmcast.lua -r capture.pcap -Y firmcast
--
-- It shows what lies outside the encryption. It has no keys, so a datagram that it finds well formed may still be a forgery.
-- "firmcast.malformed" chooses what no reader of the protocol accepts. Layouts stand in the tables below and nowhere else.

local protocol = Proto("firmcast", "firmcast")

local FORMS = { [2] = true }
local PORTS = { 9847, 9848 }
local TAG, MAC, EPHEMERAL, SEALED_KEY = 16, 16, 32, 48
local DISCOVERY_SIZE_MAX, TRANSPORT_SIZE_MAX, FRAGMENT_SIZE_MAX = 1232, 1232, 8944

local types = {
	[1] = "Initiation", [2] = "Response", [3] = "Transport", [4] = "Discovery request", [5] = "Discovery answer",
	[6] = "Fragment", [7] = "Status request", [8] = "Cookie",
}

local fields = {
	type = ProtoField.uint8("firmcast.type", "Type", base.DEC, types),
	form = ProtoField.uint8("firmcast.form", "Form"),
	reserved = ProtoField.uint16("firmcast.reserved", "Reserved"),
	sender = ProtoField.uint32("firmcast.sender", "Sender's session index", base.HEX),
	receiver = ProtoField.uint32("firmcast.receiver", "Receiver's session index", base.HEX),
	counter = ProtoField.uint64("firmcast.counter", "Counter"),
	ephemeral = ProtoField.bytes("firmcast.ephemeral", "Ephemeral key"),
	static = ProtoField.bytes("firmcast.static", "Static key (sealed)"),
	sealed = ProtoField.bytes("firmcast.sealed", "Sealed"),
	sealed_size = ProtoField.uint32("firmcast.sealed_size", "Sealed bytes, without the tag"),
	tag = ProtoField.bytes("firmcast.tag", "Tag"),
	mac = ProtoField.bytes("firmcast.mac", "Mac"),
	cookie = ProtoField.bytes("firmcast.cookie", "Cookie"),
	cookie_mac = ProtoField.bytes("firmcast.cookie_mac", "Cookie mac"),
	lowest = ProtoField.uint8("firmcast.lowest", "Lowest version, or 0"),
	highest = ProtoField.uint8("firmcast.highest", "Highest version, or 0"),
	stamp = ProtoField.absolute_time("firmcast.stamp", "Stamp", base.UTC),
	nonce = ProtoField.bytes("firmcast.nonce", "Nonce"),
	signer = ProtoField.bytes("firmcast.signer", "Signer (start of the fingerprint)"),
	signature = ProtoField.bytes("firmcast.signature", "Signature"),
	padding = ProtoField.bytes("firmcast.padding", "Zeros"),
	campaign = ProtoField.uint32("firmcast.campaign", "Campaign (low half)", base.HEX),
	block = ProtoField.uint16("firmcast.block", "Block"),
	number = ProtoField.uint32("firmcast.number", "Number in the block"),
	round = ProtoField.uint32("firmcast.round", "Round"),
}
local list = {}
for _, field in pairs(fields) do
	list[#list + 1] = field
end
protocol.fields = list

local malformed = ProtoExpert.new("firmcast.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
protocol.experts = { malformed }

-- A datagram that is taken apart from its start.
local Cursor = {}
Cursor.__index = Cursor

function Cursor:left()
	return self.buffer:len() - self.at
end

-- Shows the next `size` bytes, and returns them; nil when they are not there.
function Cursor:take(field, size)
	if self:left() < size then
		self:complain(string.format("%d bytes are missing", size - self:left()))
		self.at = self.buffer:len()
		return nil
	end
	if size == 0 then
		return nil
	end
	local range = self.buffer(self.at, size)
	self.at = self.at + size
	self.tree:add(field, range)
	return range
end

function Cursor:complain(why)
	self.wrong = self.wrong or why
	self.tree:add_proto_expert_info(malformed, why)
end

function Cursor:take_reserved()
	local reserved = self:take(fields.reserved, 2)
	if reserved and reserved:uint() ~= 0 then
		self:complain("reserved bytes are not zero")
	end
end

function Cursor:take_zeros()
	local zeros = self:left() > 0 and self:take(fields.padding, self:left())
	if zeros and zeros:bytes():tohex():find("[^0]") then
		self:complain("padding is not zero")
	end
end

function Cursor:take_stamp()
	if self:left() < 8 then
		return self:take(fields.stamp, 8)
	end
	local range = self.buffer(self.at, 8)
	local micros = range:uint64()
	local seconds = (micros / 1000000):tonumber()
	local rest = (micros % 1000000):tonumber()
	self.tree:add(fields.stamp, range, NSTime.new(seconds, rest * 1000))
	self.at = self.at + 8
end

-- A sealed message of `size` bytes and its tag; of all that is left without a size. Returns how many bytes are sealed.
function Cursor:take_sealed(size)
	size = size or self:left() - TAG
	if size < 0 then
		self:complain("shorter than a tag")
		return 0
	end
	self.tree:add(fields.sealed_size, size):set_generated()
	self:take(fields.sealed, size)
	self:take(fields.tag, TAG)
	return size
end

local function hex(range)
	return range and string.format("%08x", range:uint()) or "?"
end

-- What follows the type and form of each kind. Each returns what the summary says.
local dissectors = {}

dissectors[1] = function(cursor)
	cursor:take_reserved()
	local sender = cursor:take(fields.sender, 4)
	cursor:take(fields.ephemeral, EPHEMERAL)
	cursor:take(fields.static, SEALED_KEY)
	cursor:take_sealed(8)
	cursor:take(fields.mac, MAC)
	local with = ""
	if cursor:left() == MAC then
		cursor:take(fields.cookie_mac, MAC)
		with = ", with a cookie"
	end
	return "from " .. hex(sender) .. with
end

dissectors[2] = function(cursor)
	cursor:take_reserved()
	local sender = cursor:take(fields.sender, 4)
	local receiver = cursor:take(fields.receiver, 4)
	cursor:take(fields.ephemeral, EPHEMERAL)
	cursor:take_sealed(0)
	cursor:take(fields.mac, MAC)
	return string.format("from %s to %s", hex(sender), hex(receiver))
end

dissectors[3] = function(cursor)
	if cursor.buffer:len() > TRANSPORT_SIZE_MAX then
		cursor:complain("larger than a datagram of a session")
	end
	cursor:take_reserved()
	local receiver = cursor:take(fields.receiver, 4)
	local counter = cursor:take(fields.counter, 8)
	local size = cursor:take_sealed()
	local number = counter and tostring(counter:uint64()) or "?"
	return string.format("to %s, counter %s, %s", hex(receiver), number, size == 0 and "empty" or size .. " bytes")
end

dissectors[4] = function(cursor)
	cursor:take_reserved()
	cursor:take_stamp()
	cursor:take(fields.nonce, 16)
	local signer = cursor:take(fields.signer, 8)
	cursor:take(fields.signature, 64)
	cursor:take(fields.mac, MAC)
	cursor:take(fields.cookie_mac, MAC)
	cursor:take(fields.lowest, 1)
	cursor:take(fields.highest, 1)
	cursor:take_zeros()
	if cursor.buffer:len() ~= DISCOVERY_SIZE_MAX then
		cursor:complain("not of " .. DISCOVERY_SIZE_MAX .. " bytes")
	end
	return "by manager " .. (signer and signer:bytes():tohex():lower() or "?")
end

dissectors[5] = function(cursor)
	if cursor.buffer:len() > DISCOVERY_SIZE_MAX then
		cursor:complain("larger than a discovery request")
	end
	cursor:take_reserved()
	cursor:take(fields.nonce, 16)
	cursor:take(fields.ephemeral, EPHEMERAL)
	cursor:take(fields.static, SEALED_KEY)
	local size = cursor:take_sealed()
	return size .. " bytes"
end

dissectors[6] = function(cursor)
	local block = cursor:take(fields.block, 2)
	local campaign = cursor:take(fields.campaign, 4)
	local number = cursor:take(fields.number, 4)
	local size = cursor:take_sealed()
	if size > FRAGMENT_SIZE_MAX then
		cursor:complain("larger than a fragment")
	end
	return string.format("%s of block %s, campaign ..%s", number and number:uint() or "?", block and block:uint() or "?", hex(campaign))
end

dissectors[7] = function(cursor)
	cursor:take_reserved()
	local campaign = cursor:take(fields.campaign, 4)
	local round = cursor:take(fields.round, 4)
	cursor:take_sealed(12)
	return string.format("round %s, campaign ..%s", round and round:uint() or "?", hex(campaign))
end

dissectors[8] = function(cursor)
	cursor:take_reserved()
	local receiver = cursor:take(fields.receiver, 4)
	cursor:take(fields.cookie, 16)
	cursor:take(fields.mac, MAC)
	return "to " .. hex(receiver)
end

function protocol.dissector(buffer, packet, root)
	packet.cols.protocol = "firmcast"
	local tree = root:add(protocol, buffer())
	local cursor = setmetatable({ buffer = buffer, tree = tree, at = 0 }, Cursor)
	local kind, form = cursor:take(fields.type, 1), cursor:take(fields.form, 1)
	local dissect = kind and dissectors[kind:uint()]
	if not dissect then
		cursor:complain("no known type")
	elseif not (form and FORMS[form:uint()]) then
		cursor:complain("a form that this dissector does not know")
	else
		local summary = types[kind:uint()] .. " " .. dissect(cursor)
		if cursor:left() > 0 then
			cursor:complain(cursor:left() .. " bytes too many")
		end
		packet.cols.info = summary
		tree:append_text(", " .. summary)
	end
	if cursor.wrong then
		packet.cols.info:append(" [" .. cursor.wrong .. "]")
	end
	return buffer:len()
end

for _, port in ipairs(PORTS) do
	DissectorTable.get("udp.port"):add(port, protocol)
end
