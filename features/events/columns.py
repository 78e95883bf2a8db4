"""Every column and every kind of the event contract, named once."""

from typing import Final

USER_ID: Final = "user_id"
TS: Final = "ts"
KIND: Final = "kind"
ITEM_ID: Final = "item_id"
CATEGORY: Final = "category"
PRICE: Final = "price"
QUANTITY: Final = "quantity"
AMOUNT: Final = "amount"
DISCOUNT: Final = "discount"
ORDER_ID: Final = "order_id"
SESSION_ID: Final = "session_id"
DWELL: Final = "dwell_s"
DEVICE_ID: Final = "device_id"
SEARCH_RESULTS: Final = "search_results"
ARRIVED_AT: Final = "arrived_at"
EVENT_ID: Final = "event_id"
PAGE: Final = "page"

REQUIRED: Final = (USER_ID, TS, KIND)

# Few distinct values: stored as dense codes into the store's words. -1: none.
CODED: Final = (KIND, ITEM_ID, CATEGORY, "channel", PAGE, "place", "merchant_id", "campaign_id", "arm")
# Many distinct values that are only ever compared: stored as 64-bit hashes, texts aside. 0: none.
HASHED: Final = (ORDER_ID, SESSION_ID, DEVICE_ID)
# Non-negative numbers, stored as integers: column → (units per 1, dtype). -1: none.
NUMBERS: Final[dict[str, tuple[int, str]]] = {
    PRICE: (10_000, "int64"),
    QUANTITY: (10_000, "int64"),
    AMOUNT: (10_000, "int64"),
    DISCOUNT: (10_000, "int64"),
    DWELL: (1_000, "int32"),
    SEARCH_RESULTS: (1, "int32"),
}
TIMES: Final = (TS, ARRIVED_AT)

COLUMNS: Final = (*REQUIRED, *CODED[1:], *NUMBERS, *HASHED, ARRIVED_AT, EVENT_ID)

MONEY: Final = 10_000  # stored units per currency unit
DAY: Final = 86_400_000_000  # µs
MINUTE: Final = 60_000_000  # µs
SESSION_IDLE: Final = 30 * MINUTE  # a session ends after this long without an event
NEVER: Final = 2**63 - 1  # µs

KINDS: Final = (
    *("register", "login", "view", "search", "favourite", "cart", "order_placed", "purchase", "payment_failed"),
    *("delivered", "refund", "complaint", "review", "share", "invite", "not_interested", "survey_answer"),
    *("coupon_received", "coupon_used", "message_sent", "message_opened", "touch", "opt_out"),
)
# Where one of these names both user and device, the device's anonymous history becomes the user's.
LOGINS: Final = ("login", "register")
ANONYMOUS: Final = "device:"  # and its id name the timeline of a device whose user is not known
# Done to the user by others; every other kind is made by the user.
NOT_BY_USER: Final = ("message_sent", "coupon_received", "delivered")

# Pseudo-kinds that `Moment` understands beside the kinds of the log.
MADE: Final = "made by the user"
ANY: Final = "any kind"
