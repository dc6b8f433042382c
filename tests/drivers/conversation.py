"""What every driver says to the server; `conversation.mjs` says the same."""

PLAIN = "NOTIFY orders, 'plain'"
DOLLARS = "NOTIFY orders, $$it's$$"
BOUND = ("orders", "bound é")
COMMITTED = "NOTIFY orders, 'committed'"
UNSUPPORTED = "CREATE TABLE stock (id int)"
# The marks of parameters are the driver's.
UNSUPPORTED_BOUND = "SELECT id FROM missing WHERE id = %s"
STOCK = "SELECT id, name FROM stock WHERE id = %s"


def expect(received, bound=BOUND[1]):
    assert received == ["plain", "it's", bound, "committed"], received
