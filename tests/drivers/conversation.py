"""The statements that every driver sends to the server, as in `conversation.mjs`."""

PLAIN = "NOTIFY orders, 'plain'"
DOLLARS = "NOTIFY orders, $$it's$$"
BOUND = ("orders", "bound é")
COMMITTED = "NOTIFY orders, 'committed'"
UNSUPPORTED = "CREATE TABLE stock (id int)"
# The placeholders of parameters are those of the driver.
UNSUPPORTED_BOUND = "SELECT id FROM missing WHERE id = %s"
STOCK = "SELECT id, name FROM stock WHERE id = %s"


def expect(received, bound=BOUND[1]):
    assert received == ["plain", "it's", bound, "committed"], received
