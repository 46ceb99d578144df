from fogmetrics.application import drop_in

drop_in.install("shop")
