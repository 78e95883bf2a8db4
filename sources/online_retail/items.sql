-- Online Retail II: one row per stock code of the kept lines. Source and terms: see events.sql.
-- The name is the description most lines give; between equals, the first in the alphabet.
SELECT
    StockCode AS item_id,
    arg_min(Description, (-lines, Description)) AS name
FROM (
    SELECT StockCode, trim(Description) AS Description, count(*) AS lines
    FROM read_parquet('${ONLINE_RETAIL_PARQUET}')
    WHERE "Customer ID" IS NOT NULL AND (Invoice LIKE 'C%' OR (Quantity > 0 AND Price > 0))
    GROUP BY ALL
)
GROUP BY StockCode
ORDER BY item_id
