-- Where each registry was when it was last read, so that what was done at another address under the same name is known apart.
CREATE TABLE addresses (
    registry TEXT PRIMARY KEY,
    address  TEXT NOT NULL,
    since    TEXT                        -- nothing: as far as this state goes back
) STRICT, WITHOUT ROWID;
