-- Online Retail II: real invoice lines of a gift wholesaler in the United Kingdom, 2009-12-01 to 2011-12-09.
-- Source: UCI Machine Learning Repository, CC BY 4.0. ONLINE_RETAIL_PARQUET names the file (the two sheets as one table).
-- Lines without a customer, and sales without a positive quantity and price, are left out. Cancelled lines are refunds.
SELECT
    CAST("Customer ID" AS VARCHAR) AS user_id,
    InvoiceDate AS ts,
    CASE WHEN Invoice LIKE 'C%' THEN 'refund' ELSE 'purchase' END AS kind,
    StockCode AS item_id,
    CASE WHEN Price > 0 THEN Price END AS price,
    abs(Quantity) AS quantity,
    Invoice AS order_id,
    Country AS place
FROM read_parquet('${ONLINE_RETAIL_PARQUET}')
WHERE "Customer ID" IS NOT NULL AND (Invoice LIKE 'C%' OR (Quantity > 0 AND Price > 0))
